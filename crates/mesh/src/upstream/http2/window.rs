//! How much a host may send unasked on one stream of a connection. That much a client that does not
//! read its reply can make us hold.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::Connection;
use tokio::io::{AsyncRead, AsyncWrite};

use super::life::Life;

/// What every connection begins with: more than the 64 KiB and one frame that a host with usual
/// settings lets us send. One that echoes, and reads on only when it has written, as HAProxy does, gets
/// at least through them to what we say behind them.
pub(super) const NARROW: u32 = 80 * 1024;

/// While there is a long request, to the end of its reply, where few share the connection: told before the
/// narrow one can be used up. Room is granted
/// anew when a third of it is used, and what is left then must let such a host come as far again, with
/// what is on its way already.
const WIDE: u32 = 256 * 1024;

/// How many requests are few.
const FEW: usize = 2;

/// How long there must not have been more for a window to become wide.
const PAUSE: Duration = Duration::from_secs(1);

/// The window of a connection's streams.
#[derive(Debug, Default)]
pub(super) struct Window {
    is_wide: bool,
    /// Whether the host was not told yet that it is to change.
    waits: bool,
    /// When there were too many requests for a wide one.
    crowded: Option<Instant>,
}

impl Window {
    /// Tells the host where what goes on over the connection asks for another window. Returns whether
    /// it did.
    pub(super) fn adapt<S>(&mut self, connection: &mut Connection<S, Bytes>, life: &Life) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (requests, two_way) = (life.requests(), life.two_way());
        // Almost always: nobody asks for the time.
        if !self.is_wide && two_way == 0 {
            self.waits = false;
            return false;
        }
        let wants_wide = self.wants_wide(requests, two_way, Instant::now());
        let size = if wants_wide { WIDE } else { NARROW };
        // Refused while the host has not confirmed the last change.
        let is_told = wants_wide != self.is_wide && connection.set_initial_window_size(size).is_ok();
        if is_told {
            self.is_wide = wants_wide;
        }
        self.waits = wants_wide != self.is_wide;
        is_told
    }

    /// Whether the host is to be told something as soon as it has confirmed the last change.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// Crowding makes no window narrow that is wide: a host may have used more than the narrow one, and
    /// would wait until that is read.
    fn wants_wide(&mut self, requests: usize, two_way: usize, now: Instant) -> bool {
        if requests > FEW {
            self.crowded = Some(now);
        }
        let has_room = self.crowded.is_none_or(|crowded| now - crowded >= PAUSE);
        two_way > 0 && (self.is_wide || has_room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_wide_while_a_few_requests_go_both_ways() {
        let begun = Instant::now();
        let mut window = Window::default();
        assert!(!window.wants_wide(1, 0, begun));
        assert!(window.wants_wide(FEW, 1, begun));
        assert!(!window.wants_wide(FEW + 1, 1, begun));
        assert!(
            !window.wants_wide(1, 1, begun + PAUSE / 2),
            "there were many just now"
        );
        assert!(window.wants_wide(1, 1, begun + PAUSE));
        window.is_wide = true;
        assert!(
            window.wants_wide(FEW + 1, 1, begun + PAUSE),
            "what was promised holds"
        );
        assert!(!window.wants_wide(1, 0, begun + PAUSE));
    }
}
