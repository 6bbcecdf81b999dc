//! A compiled module while it is used.

use wasmtime::Module;

/// A module, and where its code is.
pub(crate) struct Code {
    pub(crate) module: Module,
    /// It is in a file of the cache, of which nothing was written to since it was mapped.
    is_mapped: bool,
}

impl Code {
    /// One that the compiler left in memory.
    pub(super) fn compiled(module: Module) -> Self {
        Self {
            module,
            is_mapped: false,
        }
    }

    /// One that is mapped from a file of the cache.
    pub(super) fn mapped(module: Module) -> Self {
        Self {
            module,
            is_mapped: true,
        }
    }

    /// Unmaps the pages of the file. Whichever is needed again comes back from the page cache, one
    /// fault for sixteen pages; a function that runs meanwhile does not notice.
    #[allow(unsafe_code)]
    pub(crate) fn let_go(&self) {
        if !self.is_mapped {
            return;
        }
        let image = self.module.image_range();
        let length = image.end.addr() - image.start.addr();
        // SAFETY: the pages are the file's. wasmtime maps it privately and refuses a file that would
        // have to be written to, by relocations; the file does not change, as `cache::map` explains. So
        // whoever reads or runs the pages again finds what was there. Refused, nothing has happened.
        let advised = unsafe {
            rustix::mm::madvise(
                image.start.cast_mut().cast(),
                length,
                rustix::mm::Advice::LinuxDontNeed,
            )
        };
        if let Err(error) = advised {
            tracing::debug!(%error, "the pages of a module stay mapped");
        }
    }
}
