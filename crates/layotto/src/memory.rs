//! Gives back what the start touched of the program's own file: most of an idle process is code, and
//! most of that code runs once.

/// Unmaps the pages of the program that are read and never written. Whichever is needed again comes
/// back from the page cache, one fault for sixteen pages. Takes less than a millisecond.
#[cfg(target_os = "linux")]
#[allow(
    unsafe_code,
    reason = "the standard library knows neither segments nor advice on memory"
)]
pub fn let_go_of_code() {
    use std::{ptr, slice};

    use libc::{MADV_DONTNEED, PF_W, PT_LOAD, c_int, c_void, dl_phdr_info, size_t};

    unsafe extern "C" fn first(info: *mut dl_phdr_info, _: size_t, _: *mut c_void) -> c_int {
        let page = rustix::param::page_size();
        // SAFETY: dl_iterate_phdr(3) hands over a description that is valid during the call, with so
        // many headers.
        let headers = unsafe { slice::from_raw_parts((*info).dlpi_phdr, usize::from((*info).dlpi_phnum)) };
        // SAFETY: as above.
        let base = unsafe { (*info).dlpi_addr };
        for header in headers {
            if header.p_type != PT_LOAD || header.p_flags & PF_W != 0 {
                continue;
            }
            let begin = (base + header.p_vaddr) as usize;
            let (first, end) = (begin.next_multiple_of(page), begin + header.p_memsz as usize);
            let length = (end / page * page).saturating_sub(first);
            // SAFETY: these pages are the file's and the program never writes them, so whoever reads or
            // runs them again finds what was there (madvise(2)). A debugger's breakpoints are lost.
            // Refused, nothing has happened.
            unsafe { libc::madvise(ptr::without_provenance_mut(first), length, MADV_DONTNEED) };
        }
        // The program comes first. Libraries are shared with other processes anyway.
        1
    }
    // SAFETY: the callback keeps to its contract, and is given nothing of ours.
    unsafe { libc::dl_iterate_phdr(Some(first), ptr::null_mut()) };
}

/// Other systems have other ways.
#[cfg(not(target_os = "linux"))]
pub fn let_go_of_code() {}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// KiB of files that the process has in memory.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssFile:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn code_is_let_go_of_and_comes_back_where_it_is_needed() {
        let before = resident();
        let_go_of_code();
        let after = resident();
        assert!(after < before, "{after} KiB of {before} are left");
    }
}
