//! Flags of `heddle node` about forking another node's chain, named as Anvil's are.

use clap::Args;
use heddle_node::{ForkBlock, ForkConfig, ForkDefaults, ForkOptions, Patience};
use std::{path::PathBuf, str::FromStr, time::Duration};

const HEADING: &str = "Forking (with --dev)";

#[derive(Debug, Args)]
pub(crate) struct ForkArgs {
    /// Goes on from a block of another node. Its state is read from there when something asks for
    /// it. URL@N is the same as --fork-block-number N.
    #[arg(short = 'f', long, alias = "rpc-url", value_name = "URL[@N]", requires = "dev", conflicts_with_all = ["genesis", "datadir", "load_state", "dump_state", "state"], help_heading = HEADING)]
    pub(crate) fork_url: Option<ForkUrl>,
    /// Which block; a negative number counts back from the newest [default: the newest].
    #[arg(
        long,
        value_name = "N",
        requires = "fork_url",
        allow_negative_numbers = true,
        help_heading = HEADING
    )]
    pub(crate) fork_block_number: Option<i64>,
    /// Chain id of the other node, if it is not to be asked for it.
    #[arg(long, value_name = "ID", requires = "fork_url", value_parser = clap::value_parser!(u64).range(1..=crate::args::CHAIN_ID_MAX), help_heading = HEADING)]
    pub(crate) fork_chain_id: Option<u64>,
    /// Keeps nothing on disk of what was read.
    #[arg(long, help_heading = HEADING)]
    pub(crate) no_storage_caching: bool,
    /// Where that is kept [default: heddle/forks in $XDG_CACHE_HOME, or in ~/.cache].
    #[arg(long, value_name = "DIR", conflicts_with = "no_storage_caching", help_heading = HEADING)]
    pub(crate) fork_cache_dir: Option<PathBuf>,
    /// Most milliseconds that the other node may take for one request [default: 30000].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000), help_heading = HEADING)]
    pub(crate) timeout: Option<u64>,
    /// How often a request is made again that failed for a passing reason [default: 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=20), help_heading = HEADING)]
    pub(crate) retries: Option<u32>,
    /// Milliseconds before the first of these; each waits twice as long as the one before
    /// [default: 250].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000), help_heading = HEADING)]
    pub(crate) fork_retry_backoff: Option<u64>,
}

/// An address, perhaps with a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForkUrl {
    url: String,
    block: Option<u64>,
}

impl FromStr for ForkUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Err("give an address that starts with http:// or https://".to_owned());
        }
        // What follows the last @ is a block if it is a number, and otherwise a host after a password.
        if let Some((url, block)) = text.rsplit_once('@')
            && let Ok(block) = block.parse()
        {
            return Ok(Self { url: url.to_owned(), block: Some(block) });
        }
        Ok(Self { url: text.to_owned(), block: None })
    }
}

impl ForkArgs {
    /// How any node is asked, also one that `anvil_reset` names.
    pub(crate) fn defaults(&self) -> ForkDefaults {
        let usual = Patience::READS;
        let milliseconds = |given: Option<u64>, usual| given.map_or(usual, Duration::from_millis);
        let patience = Patience {
            request_time_max: milliseconds(self.timeout, usual.request_time_max),
            attempts_max: self.retries.map_or(usual.attempts_max, |retries| retries + 1),
            first_pause: milliseconds(self.fork_retry_backoff, usual.first_pause),
            ..usual
        };
        let cache = self.fork_cache_dir.clone().or_else(usual_cache);
        ForkDefaults { patience, cache: cache.filter(|_| !self.no_storage_caching) }
    }

    /// What to fork, if anything.
    pub(crate) fn config(&self, chain_id: Option<u64>) -> Option<ForkConfig> {
        let ForkUrl { url, block } = self.fork_url.clone()?;
        let block = match (self.fork_block_number, block) {
            (Some(number), _) if number < 0 => ForkBlock::Before(number.unsigned_abs()),
            (Some(number), _) => ForkBlock::Number(number.unsigned_abs()),
            (None, Some(number)) => ForkBlock::Number(number),
            (None, None) => ForkBlock::Latest,
        };
        let ForkDefaults { patience, cache } = self.defaults();
        let options = ForkOptions { url, block, chain_id: self.fork_chain_id, patience, cache };
        Some(ForkConfig { options, chain_id })
    }
}

fn usual_cache() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Some(cache?.join("heddle").join("forks"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_name_a_block_and_a_password() {
        let read = |text: &str| text.parse::<ForkUrl>();
        let at = |url: &str, block| Ok(ForkUrl { url: url.to_owned(), block });
        assert_eq!(read("http://127.0.0.1:8545"), at("http://127.0.0.1:8545", None));
        assert_eq!(read("http://127.0.0.1:8545@7"), at("http://127.0.0.1:8545", Some(7)));
        assert_eq!(read("https://me:secret@node:1"), at("https://me:secret@node:1", None));
        assert_eq!(read("https://me:1@node@12"), at("https://me:1@node", Some(12)));
        assert!(read("ws://127.0.0.1:8545").is_err());
    }
}
