//! One direction of an exchange.

use std::{collections::VecDeque, future::pending};

use crate::exchange::{Piece, Port};

/// What a direction waits for the guest with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    Head,
    Body,
    Trailers,
}

/// One direction.
pub(super) struct Side {
    pub(super) port: Option<Port>,
    /// Its head has come.
    pub(super) began: bool,
    /// The head has gone.
    pub(super) passed: bool,
    /// Nothing follows what came.
    pub(super) ended: bool,
    /// Nothing follows, though there is no end.
    pub(super) cut: bool,
    pub(super) held: Option<Held>,
    /// What passed the guest.
    pub(super) out: VecDeque<Piece>,
}

/// What a direction does by itself.
pub(super) enum Moved {
    Came(Piece),
    /// Something has gone, or nothing comes any more.
    On,
}

impl Side {
    /// One that has not begun; without a port it has no body that the guest sees.
    pub(super) fn new(port: Option<Port>) -> Self {
        Self {
            port,
            began: false,
            passed: false,
            ended: false,
            cut: false,
            held: None,
            out: VecDeque::new(),
        }
    }

    /// Whether nothing more is taken in while the guest holds what there is.
    pub(super) fn is_held_whole(&self) -> bool {
        match self.held {
            Some(Held::Body) => self.ended || self.cut,
            held => held.is_some(),
        }
    }

    /// Whether pieces are taken in.
    fn reads(&self) -> bool {
        self.began && !self.ended && !self.cut && !self.is_held_whole()
    }

    /// Whether something may come of it by itself.
    pub(super) fn lives(&self) -> bool {
        self.port.is_some() && (self.reads() || !self.out.is_empty())
    }

    /// Sends what is there to be sent, or else takes a piece in. Losing the future loses nothing.
    pub(super) async fn moves(&mut self) -> Moved {
        let reads = self.reads();
        let Some(port) = self.port.as_mut() else {
            return pending().await;
        };
        if !self.out.is_empty() {
            match port.to.reserve().await {
                Ok(place) => {
                    if let Some(piece) = self.out.pop_front() {
                        place.send(piece);
                    }
                }
                Err(_) => self.out.clear(),
            }
            return Moved::On;
        }
        if !reads {
            return pending().await;
        }
        match port.from.recv().await {
            Some(piece) => Moved::Came(piece),
            None => {
                self.cut = true;
                Moved::On
            }
        }
    }
}
