//! Secret stores.

pub mod local_env;
pub mod local_file;

pub use local_env::LocalEnv;
pub use local_file::LocalFile;
