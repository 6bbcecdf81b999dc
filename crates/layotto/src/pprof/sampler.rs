//! Where the process spends processor time: the kernel sends SIGPROF after each hundredth of a
//! second of it, to the thread that spent it, and the handler notes which instruction it
//! interrupted.
//!
//! The handler may interrupt anything, an allocation too, so it does nothing but this: it walks no
//! stack, as the unwinders at hand take locks or follow whatever a register holds. A handler has no
//! argument of ours, hence the static.

use std::{
    io,
    ptr::null_mut,
    sync::{
        OnceLock,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{AcqRel, Relaxed, Release},
        },
    },
};

use http::StatusCode;
use libc::{c_int, c_void, siginfo_t, ucontext_t};

/// Samples in a second of processor time.
pub const FREQUENCY: u64 = 100;

/// The most samples of one profile: five minutes of two processors.
const MOST: usize = 60_000;

/// Made for the first profile, and kept, as a handler may still be at work when one ends.
static SAMPLES: OnceLock<Samples> = OnceLock::new();
static BUSY: AtomicBool = AtomicBool::new(false);

struct Samples {
    next: AtomicUsize,
    addresses: Box<[AtomicUsize]>,
}

/// Why nothing is sampled.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is one timer in a process.
    #[error("another profile is being taken")]
    Busy,
    /// Handlers find the instruction differently on each.
    #[error("there are no profiles on this kind of processor")]
    Processor,
    /// The system refused the handler or the timer.
    #[error("the system refuses: {0}")]
    System(#[from] io::Error),
}

/// Sampling, until this is dropped.
pub struct Sampling(());

impl Refused {
    /// What the caller is told.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Busy => StatusCode::CONFLICT,
            Self::Processor => StatusCode::NOT_IMPLEMENTED,
            Self::System(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Samples {
    fn new() -> Self {
        Self {
            next: AtomicUsize::new(0),
            addresses: (0..MOST).map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    fn clear(&self) {
        self.addresses
            .iter()
            .for_each(|address| address.store(0, Relaxed));
        self.next.store(0, Relaxed);
    }

    fn note(&self, address: usize) {
        let next = self.next.fetch_add(1, Relaxed);
        if let Some(place) = self.addresses.get(next) {
            place.store(address, Relaxed);
        }
    }
}

impl Sampling {
    /// Begins; one at a time.
    pub fn start() -> Result<Self, Refused> {
        if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            return Err(Refused::Processor);
        }
        if BUSY.swap(true, AcqRel) {
            return Err(Refused::Busy);
        }
        let sampling = Self(());
        SAMPLES.get_or_init(Samples::new).clear();
        handle(note as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as libc::sighandler_t)?;
        set_timer(1_000_000 / FREQUENCY as libc::suseconds_t)?;
        Ok(sampling)
    }

    /// Ends; the addresses of what was interrupted.
    pub fn end(self) -> Vec<usize> {
        drop(self);
        let Some(samples) = SAMPLES.get() else {
            return Vec::new();
        };
        let noted = samples.addresses.iter().take(samples.next.load(Relaxed));
        let noted = noted.map(|address| address.load(Relaxed));
        noted.filter(|address| *address != 0).collect()
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        let ended = set_timer(0);
        // A signal may still be on its way, and the default is to end the process.
        let ignored = handle(libc::SIG_IGN);
        if let Err(error) = ended.and(ignored) {
            tracing::warn!(%error, "sampling does not end");
        }
        BUSY.store(false, Release);
    }
}

fn handle(handler: libc::sighandler_t) -> io::Result<()> {
    #[allow(unsafe_code, reason = "there is no safe call with the handler's context")]
    // SAFETY: a zeroed sigaction is one with no flags and an empty mask, `note` has the type that
    // SA_SIGINFO asks for and does only what a handler may.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGPROF, &action, null_mut())
    };
    outcome(done)
}

/// Lets the signal come after each so many microseconds of processor time; 0: no more.
fn set_timer(interval: libc::suseconds_t) -> io::Result<()> {
    let every = libc::timeval {
        tv_sec: 0,
        tv_usec: interval,
    };
    let timer = libc::itimerval {
        it_interval: every,
        it_value: every,
    };
    #[allow(unsafe_code, reason = "the standard library has no timers of processor time")]
    // SAFETY: the timer outlives the call, which may be told not to return the one before.
    let done = unsafe { libc::setitimer(libc::ITIMER_PROF, &timer, null_mut()) };
    outcome(done)
}

fn outcome(done: c_int) -> io::Result<()> {
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn note(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    #[allow(unsafe_code, reason = "the kernel hands the context over as a pointer")]
    // SAFETY: with SA_SIGINFO the third argument points to the context of what was interrupted.
    let address = unsafe { context.cast::<ucontext_t>().as_ref() }.map_or(0, instruction);
    if let Some(samples) = SAMPLES.get() {
        samples.note(address);
    }
}

/// Where the thread was.
fn instruction(context: &ucontext_t) -> usize {
    #[cfg(target_arch = "x86_64")]
    return context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize;
    #[cfg(target_arch = "aarch64")]
    return context.uc_mcontext.pc as usize;
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    0
}

#[cfg(test)]
mod tests {
    use std::{
        hint::black_box,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn time_that_is_spent_is_sampled_and_only_one_profile_is_taken() {
        let sampling = Sampling::start().unwrap();
        assert!(matches!(Sampling::start(), Err(Refused::Busy)));
        let (begun, mut spun) = (Instant::now(), 0_u64);
        while SAMPLES.get().unwrap().next.load(Relaxed) < 3 {
            spun = black_box(spun.wrapping_add(1));
            assert!(begun.elapsed() < Duration::from_secs(60), "no sample");
        }
        assert!(sampling.end().len() >= 3);
        drop(Sampling::start().unwrap());
    }
}
