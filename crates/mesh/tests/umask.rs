//! The mode of a socket's file under an odd umask; alone, as the umask is the whole process's.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt;

use layotto_mesh::{Listener, listener::Config};
use rustix::{fs::Mode, process::umask};

#[tokio::test]
async fn the_umask_neither_widens_nor_narrows_a_sockets_mode() {
    let directory = tempfile::tempdir().unwrap();
    for (mask, mode) in [(0o000, 0o660), (0o077, 0o660), (0o777, 0o600)] {
        let path = directory.path().join(format!("{mask}.sock"));
        let mut config = Config::new("uds", path.clone());
        config.socket_mode = mode;
        umask(Mode::from_raw_mode(mask));
        let _listener = Listener::bind(&config).await.unwrap();
        assert_eq!(
            path.metadata().unwrap().permissions().mode() & 0o7777,
            mode,
            "umask {mask:o}"
        );
    }
}
