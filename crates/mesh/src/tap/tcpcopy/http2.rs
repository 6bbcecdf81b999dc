//! The frames of HTTP/2 (RFC 9113, section 4), as far as a looker-on needs them.

/// What a client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length of a frame's head.
pub const HEAD: usize = 9;

/// Flag of DATA and HEADERS: the last of its stream.
pub const END_STREAM: u8 = 0x1;
/// Flag of HEADERS and CONTINUATION: the last of its block.
pub const END_HEADERS: u8 = 0x4;
/// Flag of DATA and HEADERS: padded.
pub const PADDED: u8 = 0x8;
/// Flag of HEADERS: carries a priority.
pub const PRIORITY: u8 = 0x20;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The length of the payload.
    pub length: usize,
    /// What it carries.
    pub kind: Kind,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the RFC's")]
pub enum Kind {
    Data,
    Headers,
    Priority,
    RstStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// A type that the RFC does not know.
    Other(u8),
}

impl Head {
    /// Reads the head of a frame.
    pub fn read(bytes: [u8; HEAD]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = bytes;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind: Kind::from(kind),
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        }
    }

    /// Reads the head of the frame that `bytes` begin with, where it is there as a whole.
    pub fn first(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(|head| Self::read(*head))
    }

    /// Writes it.
    pub fn write(self, to: &mut Vec<u8>) {
        let [_, length @ ..] = (self.length as u32).to_be_bytes();
        to.extend_from_slice(&length);
        to.extend_from_slice(&[self.kind.code(), self.flags]);
        to.extend_from_slice(&self.stream.to_be_bytes());
    }

    /// Whether a flag is set.
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What the payload of DATA or HEADERS holds besides padding and priority; nothing where it
    /// is malformed.
    pub fn content(self, payload: &[u8]) -> Option<&[u8]> {
        let (padding, payload) = match self.has(PADDED) {
            true => payload
                .split_first()
                .map(|(padding, rest)| (usize::from(*padding), rest))?,
            false => (0, payload),
        };
        let skipped = if self.kind == Kind::Headers && self.has(PRIORITY) {
            5
        } else {
            0
        };
        payload.get(skipped..payload.len().checked_sub(padding)?)
    }
}

impl From<u8> for Kind {
    fn from(code: u8) -> Self {
        match code {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::RstStream,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            other => Self::Other(other),
        }
    }
}

impl Kind {
    /// The name in the RFC.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "DATA",
            Self::Headers => "HEADERS",
            Self::Priority => "PRIORITY",
            Self::RstStream => "RST_STREAM",
            Self::Settings => "SETTINGS",
            Self::PushPromise => "PUSH_PROMISE",
            Self::Ping => "PING",
            Self::GoAway => "GOAWAY",
            Self::WindowUpdate => "WINDOW_UPDATE",
            Self::Continuation => "CONTINUATION",
            Self::Other(_) => "extension",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Headers => 1,
            Self::Priority => 2,
            Self::RstStream => 3,
            Self::Settings => 4,
            Self::PushPromise => 5,
            Self::Ping => 6,
            Self::GoAway => 7,
            Self::WindowUpdate => 8,
            Self::Continuation => 9,
            Self::Other(code) => code,
        }
    }
}
