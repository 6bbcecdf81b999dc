//! `LB_REQUEST_ROUNDROBIN`: every request begins with the first host, each retry takes the next.

use std::sync::Arc;

use super::Balance;
use crate::cluster::{Host, Pick, hosts::Hosts};

#[derive(Debug)]
pub(super) struct RequestRoundRobin;

impl Balance for RequestRoundRobin {
    fn choose<'a>(&self, hosts: &'a Hosts, pick: &Pick<'_>) -> Option<&'a Arc<Host>> {
        let healthy = hosts.healthy();
        healthy.get(pick.tried.len().checked_rem(healthy.len())?)
    }
}

#[cfg(test)]
mod tests {
    use crate::cluster::{
        Pick,
        balance::testing::{cluster, picks},
    };

    #[test]
    fn requests_begin_with_the_first_host_and_retries_advance() {
        let cluster = cluster("LB_REQUEST_ROUNDROBIN", &[1, 1, 1]);
        assert_eq!(picks(&cluster, 2), ["10.0.0.0:80", "10.0.0.0:80"]);
        let mut tried = Vec::new();
        for name in ["10.0.0.0:80", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.0:80"] {
            let host = cluster
                .choose(&Pick {
                    hash: 0,
                    tried: &tried,
                })
                .unwrap();
            assert_eq!(&*host.name, name);
            tried.push(host);
        }
    }
}
