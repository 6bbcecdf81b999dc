//! A cluster's counters, for whoever shows them.

use super::Cluster;
use crate::metrics::{Figures, HealthFigures, Row, Source};

impl Source for Cluster {
    fn upstream(&self, each: &mut dyn FnMut(Row<'_>)) {
        let row = |host, figures| Row {
            cluster: &self.name,
            host,
            figures,
            duration: None,
        };
        each(row(None, Figures::of(self.stats.all())));
        for host in self.hosts().iter() {
            each(Row {
                cluster: &self.name,
                host: Some(&host.name),
                figures: Figures::of(host.stats.all()),
                duration: None,
            });
        }
    }

    fn health(&self, each: &mut dyn FnMut(&str, &HealthFigures)) {
        let service = self.config.health_check.service_name.as_str();
        if !service.is_empty() {
            each(service, &HealthFigures::of(self.health.all()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Stats;

    #[test]
    fn every_counter_of_a_cluster_is_shown() {
        let stats = Stats::default();
        for (name, _) in stats.all() {
            assert_ne!(Figures::of([(name, 1)]), Figures::default(), "{name}");
        }
    }
}
