//! Whether a host takes connections.

use super::probe::{Failure, connect};
use crate::cluster::Host;

pub(super) async fn ask(host: &Host) -> Result<(), Failure> {
    connect(host, None).await?;
    Ok(())
}
