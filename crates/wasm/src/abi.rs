//! The numbers of the Proxy-Wasm ABI, versions 0.1.0, 0.2.0 and 0.2.1, and Layotto's buffer 8.

use std::fmt;

use wasmtime::Module;

/// What a host function answers when it does not answer OK (0). The numbers are the ABI's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// The thing asked for is not there.
    NotFound = 1,
    /// An argument has no meaning, or not here.
    BadArgument = 2,
    /// A value could not be encoded.
    SerializationFailure = 3,
    /// A value could not be decoded.
    ParseFailure = 4,
    /// A pointer leads outside the guest's memory.
    InvalidMemoryAccess = 6,
    /// A queue holds nothing.
    Empty = 7,
    /// The value was changed by another.
    CasMismatch = 8,
    /// Everything else.
    InternalFailure = 10,
    /// The host does not do this.
    Unimplemented = 12,
}

/// How much a line of a guest's log matters. The order is the ABI's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

impl Level {
    /// The level of a number of the ABI, 0 to 5.
    pub fn of(number: u32) -> Option<Self> {
        const LEVELS: [Level; 6] = [
            Level::Trace,
            Level::Debug,
            Level::Info,
            Level::Warn,
            Level::Error,
            Level::Critical,
        ];
        LEVELS.get(number as usize).copied()
    }
}

/// A buffer of bytes that guests read and write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Buffer {
    RequestBody,
    ResponseBody,
    /// Of a TCP connection; there are none here.
    Downstream,
    Upstream,
    CallBody,
    GrpcMessage,
    VmConfiguration,
    PluginConfiguration,
    /// The arguments of a foreign function; in Layotto's `proxy_get_id`, its answer.
    CallData,
}

impl Buffer {
    pub(crate) fn of(number: u32) -> Result<Self, Status> {
        Ok(match number {
            0 => Self::RequestBody,
            1 => Self::ResponseBody,
            2 => Self::Downstream,
            3 => Self::Upstream,
            4 => Self::CallBody,
            5 => Self::GrpcMessage,
            6 => Self::VmConfiguration,
            7 => Self::PluginConfiguration,
            8 => Self::CallData,
            _ => return Err(Status::BadArgument),
        })
    }
}

/// A list of headers or trailers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Map {
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
    ResponseTrailers,
    GrpcInitial,
    GrpcTrailing,
    CallHeaders,
    CallTrailers,
}

impl Map {
    pub(crate) fn of(number: u32) -> Result<Self, Status> {
        Ok(match number {
            0 => Self::RequestHeaders,
            1 => Self::RequestTrailers,
            2 => Self::ResponseHeaders,
            3 => Self::ResponseTrailers,
            4 => Self::GrpcInitial,
            5 => Self::GrpcTrailing,
            6 => Self::CallHeaders,
            7 => Self::CallTrailers,
            _ => return Err(Status::BadArgument),
        })
    }
}

/// Which version of the ABI a module says it was written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.1.0.
    V0_1_0,
    /// 0.2.0.
    V0_2_0,
    /// 0.2.1.
    V0_2_1,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_2_1 => "0.2.1",
        })
    }
}

impl Version {
    /// Reads the marker among the exports; a module without one counts as 0.2.0, since every host
    /// function of every version is there for all.
    pub fn of(module: &Module) -> Self {
        let has = |name| module.get_export(name).is_some();
        if has("proxy_abi_version_0_2_1") {
            Self::V0_2_1
        } else if has("proxy_abi_version_0_1_0") && !has("proxy_abi_version_0_2_0") {
            Self::V0_1_0
        } else {
            Self::V0_2_0
        }
    }
}
