//! How many blobs a block may carry and how their price moves, fork by fork (EIP-7840, EIP-7892).

use std::collections::BTreeMap;

use alloy_eips::{
    eip7594::MAX_BLOBS_PER_TX_FUSAKA,
    eip7840::{BLOB_BASE_COST, BlobParams},
};
use alloy_genesis::ChainConfig;

use crate::ChainSpecError;

/// The most blobs a schedule may allow in a block. Far above any block a network could carry (128 KiB each), and small
/// enough that sums and products of blob gas stay within 64 bits.
pub(crate) const BLOBS_PER_BLOCK_MAX: u64 = 1_000_000;

/// The blob parameters in force from each activation time on, in order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlobSchedule {
    /// Activation time (seconds) and what applies from it on.
    entries: Vec<(u64, BlobParams)>,
}

impl BlobSchedule {
    /// Builds the schedule from `blobSchedule` and the fork times, which must already be known to be in order.
    ///
    /// A fork that the file leaves out keeps what the fork before it had, except that Cancun and Prague bring the
    /// values of EIP-4844 and EIP-7691. A blob-parameter-only fork consists of nothing but its entry, so that one is
    /// required. Names are compared without regard to case, as geth's JSON reader does.
    ///
    /// # Errors
    /// With the path `config.blobSchedule.…` of an entry that is missing or makes no sense.
    pub(crate) fn from_config(config: &ChainConfig) -> Result<Self, ChainSpecError> {
        let mut listed = BTreeMap::new();
        for (name, params) in &config.blob_schedule {
            check(name, params)?;
            listed.insert(name.to_ascii_lowercase(), *params);
        }

        let mut schedule = Self::default();
        for (name, time) in [
            ("cancun", config.cancun_time),
            ("prague", config.prague_time),
            ("osaka", config.osaka_time),
            ("bpo1", config.bpo1_time),
            ("bpo2", config.bpo2_time),
            ("bpo3", config.bpo3_time),
            ("bpo4", config.bpo4_time),
            ("bpo5", config.bpo5_time),
            ("amsterdam", config.amsterdam_time),
            ("bogota", config.bogota_time),
        ] {
            let Some(time) = time else { continue };
            let before = schedule.entries.last().map(|(_, params)| *params);
            let params = match (listed.get(name), name, before) {
                (Some(params), _, _) => *params,
                (None, "cancun", _) => BlobParams::cancun(),
                (None, "prague", _) => BlobParams::prague(),
                (None, "osaka" | "amsterdam" | "bogota", Some(before)) => before,
                (None, _, _) => {
                    return Err(ChainSpecError::invalid(
                        format!("config.blobSchedule.{name}"),
                        format!("is required, because config.{name}Time is set"),
                    ));
                }
            };
            let is_osaka_active = config.osaka_time.is_some_and(|osaka| osaka <= time);
            schedule.entries.push((time, with_fork_rules(params, is_osaka_active)));
        }
        Ok(schedule)
    }

    /// The parameters in force at `timestamp` (seconds), `None` before Cancun.
    pub(crate) fn at(&self, timestamp: u64) -> Option<BlobParams> {
        let active = self.entries.iter().rev().find(|(time, _)| *time <= timestamp);
        active.map(|(_, params)| *params)
    }
}

/// Adds what the fork fixes and a schedule cannot say: the most blobs in one transaction (EIP-7594) and the execution
/// cost behind the reserve price (EIP-7918), both from Osaka on.
fn with_fork_rules(params: BlobParams, is_osaka_active: bool) -> BlobParams {
    if is_osaka_active {
        params
            .with_max_blobs_per_tx(params.max_blob_count.min(MAX_BLOBS_PER_TX_FUSAKA))
            .with_blob_base_cost(BLOB_BASE_COST)
    } else {
        params.with_max_blobs_per_tx(params.max_blob_count).with_blob_base_cost(0)
    }
}

fn check(name: &str, params: &BlobParams) -> Result<(), ChainSpecError> {
    let wrong = |field: &str, reason: String| {
        Err(ChainSpecError::invalid(format!("config.blobSchedule.{name}.{field}"), reason))
    };
    let BlobParams { target_blob_count: target, max_blob_count: max, .. } = *params;
    if max == 0 || max > BLOBS_PER_BLOCK_MAX {
        return wrong("max", format!("must be between 1 and {BLOBS_PER_BLOCK_MAX}, but is {max}"));
    }
    if target > max {
        return wrong("target", format!("must not exceed max, but {target} is more than {max}"));
    }
    if params.update_fraction == 0 {
        return wrong("baseFeeUpdateFraction", "must not be 0".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ChainConfig {
        ChainConfig {
            cancun_time: Some(10),
            prague_time: Some(20),
            osaka_time: Some(30),
            ..Default::default()
        }
    }

    fn params(target: u64, max: u64) -> BlobParams {
        BlobParams { target_blob_count: target, max_blob_count: max, ..BlobParams::cancun() }
    }

    #[test]
    fn a_file_without_a_schedule_gets_the_values_of_the_eips() {
        let schedule = BlobSchedule::from_config(&config()).unwrap();
        assert_eq!(schedule.at(9), None);
        assert_eq!(schedule.at(10), Some(BlobParams::cancun()));
        assert_eq!(schedule.at(29), Some(BlobParams::prague()));
        assert_eq!(schedule.at(30), Some(BlobParams::osaka()));
        assert_eq!(schedule.at(u64::MAX), Some(BlobParams::osaka()));
    }

    #[test]
    fn osaka_keeps_the_listed_counts_of_prague_and_adds_its_own_limits() {
        let mut config = config();
        config.blob_schedule.insert("Prague".to_owned(), params(12, 20));
        let schedule = BlobSchedule::from_config(&config).unwrap();
        let prague = schedule.at(20).unwrap();
        assert_eq!((prague.max_blob_count, prague.max_blobs_per_tx), (20, 20));
        assert_eq!(prague.blob_base_cost, 0);
        let osaka = schedule.at(30).unwrap();
        assert_eq!((osaka.target_blob_count, osaka.max_blob_count), (12, 20));
        assert_eq!((osaka.max_blobs_per_tx, osaka.blob_base_cost), (6, BLOB_BASE_COST));
    }

    #[test]
    fn forks_at_the_same_time_leave_the_last_one_in_force() {
        let mut config = config();
        config.osaka_time = Some(20);
        config.bpo1_time = Some(20);
        config.bpo2_time = Some(40);
        config.blob_schedule.insert("bpo1".to_owned(), params(10, 15));
        config.blob_schedule.insert("bpo2".to_owned(), params(14, 21));
        let schedule = BlobSchedule::from_config(&config).unwrap();
        assert_eq!(schedule.at(20).unwrap().max_blob_count, 15);
        assert_eq!(schedule.at(40).unwrap().max_blob_count, 21);
    }

    #[test]
    fn amsterdam_keeps_what_the_last_blob_parameter_fork_set() {
        let mut config = config();
        config.bpo1_time = Some(40);
        config.amsterdam_time = Some(50);
        config.blob_schedule.insert("bpo1".to_owned(), params(10, 15));
        let schedule = BlobSchedule::from_config(&config).unwrap();
        assert_eq!(schedule.at(50), schedule.at(40));
    }
}
