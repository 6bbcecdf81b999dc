//! What can go wrong between a sidecar and its product.

use std::{num::NonZeroU32, time::Duration};

use layotto_testkit::fault_proxy::{Direction, Door, Faults, Flow};

use super::rig::Rig;

/// One thing that goes wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The product is killed and started again.
    Killed,
    /// The product hangs.
    Frozen,
    /// Connections are accepted and reset, and those that were there are reset.
    Slams,
    /// Connections are made and nothing gets through.
    Blackhole,
    /// Connections are reset, again and again.
    Resets,
    /// Little gets through.
    Slow,
    /// Everything arrives late.
    Late,
    /// Requests, or answers, stop in the middle.
    Midway(Direction),
    /// One direction of the connections ends, again and again.
    HalfClosed(Direction),
}

impl Fault {
    /// All but the kill.
    pub const NETWORK: [Self; 10] = [
        Self::Frozen,
        Self::Slams,
        Self::Blackhole,
        Self::Resets,
        Self::Slow,
        Self::Late,
        Self::Midway(Direction::ToServer),
        Self::Midway(Direction::ToClient),
        Self::HalfClosed(Direction::ToServer),
        Self::HalfClosed(Direction::ToClient),
    ];

    /// Puts the fault in place, and takes it away after `span`; the product takes work then.
    pub async fn happen(self, rig: &mut Rig, span: Duration, random: &mut fastrand::Rng) {
        match self {
            Self::Killed => {
                rig.kill().await;
                tokio::time::sleep(span).await;
                rig.resume().await;
                return;
            }
            Self::Frozen => {
                rig.server.freeze().unwrap();
                tokio::time::sleep(span).await;
                rig.server.thaw().unwrap();
                rig.product_answers().await;
                return;
            }
            Self::Resets | Self::HalfClosed(_) => {
                let end = tokio::time::Instant::now() + span;
                while tokio::time::Instant::now() < end {
                    match self {
                        Self::HalfClosed(direction) => rig.proxy.half_close(direction),
                        _ => rig.proxy.reset(),
                    }
                    tokio::time::sleep(Duration::from_millis(random.u64(20..200))).await;
                }
                return;
            }
            Self::Slams => {
                rig.proxy.set(Faults::door(Door::Slams)).await;
                rig.proxy.reset();
            }
            Self::Blackhole => rig.proxy.set(Faults::blackhole()).await,
            Self::Slow => {
                let rate = NonZeroU32::new(random.u32(500..5000)).unwrap();
                rig.proxy.set(Faults::slow(rate)).await;
            }
            Self::Late => {
                let delay = Duration::from_millis(random.u64(100..800));
                rig.proxy.set(Faults::delay(delay)).await;
            }
            Self::Midway(direction) => {
                let stops = Flow {
                    stops_after: Some(random.u64(1..300)),
                    ..Flow::default()
                };
                let mut faults = Faults::default();
                match direction {
                    Direction::ToServer => faults.to_server = stops,
                    Direction::ToClient => faults.to_client = stops,
                }
                rig.proxy.set(faults).await;
            }
        }
        tokio::time::sleep(span).await;
        rig.proxy.heal().await;
    }
}
