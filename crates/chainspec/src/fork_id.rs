//! The fork id that peers compare before they talk (EIP-2124, EIP-6122).

use alloy_eips::eip2124::{ForkHash, ForkId};
use alloy_primitives::B256;

use crate::ChainSpec;

impl ChainSpec {
    /// The fork id at a head with this number and timestamp (seconds): a checksum over the genesis hash and the forks
    /// passed, and the block or time of the next fork, 0 where none is planned.
    pub fn fork_id(&self, genesis_hash: B256, head_number: u64, head_timestamp: u64) -> ForkId {
        let mut hash = ForkHash::from(genesis_hash);
        let by_block = self.fork_blocks().into_iter().map(|fork| (fork, head_number));
        let by_time = self.fork_times().into_iter().map(|fork| (fork, head_timestamp));
        for (fork, head) in by_block.chain(by_time) {
            if fork > head {
                return ForkId { hash, next: fork };
            }
            hash += fork;
        }
        ForkId { hash, next: 0 }
    }

    /// The block numbers after genesis at which forks take effect, in order, each once. As EIP-2124 wants it, the merge
    /// itself is not one, but the netsplit block after it is.
    pub fn fork_blocks(&self) -> Vec<u64> {
        let config = self.config();
        let blocks = [
            config.homestead_block,
            config.dao_fork_block,
            config.eip150_block,
            config.eip155_block,
            config.eip158_block,
            config.byzantium_block,
            config.constantinople_block,
            config.petersburg_block,
            config.istanbul_block,
            config.muir_glacier_block,
            config.berlin_block,
            config.london_block,
            config.arrow_glacier_block,
            config.gray_glacier_block,
            config.merge_netsplit_block,
        ];
        in_order(&blocks, 0)
    }

    /// The times (seconds) after genesis at which forks take effect, in order, each once.
    pub fn fork_times(&self) -> Vec<u64> {
        let config = self.config();
        let times = [
            config.shanghai_time,
            config.cancun_time,
            config.prague_time,
            config.osaka_time,
            config.bpo1_time,
            config.bpo2_time,
            config.bpo3_time,
            config.bpo4_time,
            config.bpo5_time,
            config.amsterdam_time,
            config.bogota_time,
        ];
        in_order(&times, self.genesis.timestamp)
    }
}

fn in_order(forks: &[Option<u64>], genesis: u64) -> Vec<u64> {
    let mut forks: Vec<u64> = forks.iter().flatten().copied().filter(|f| *f > genesis).collect();
    forks.sort_unstable();
    forks.dedup();
    forks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAINNET_GENESIS_HASH;
    use alloy_genesis::{ChainConfig, Genesis};
    use alloy_hardforks::ethereum::sepolia;
    use alloy_primitives::b256;

    fn assert_fork_id(
        spec: &ChainSpec,
        genesis: B256,
        (number, timestamp): (u64, u64),
        (hash, next): (u32, u64),
    ) {
        let expected = ForkId { hash: ForkHash(hash.to_be_bytes()), next };
        assert_eq!(spec.fork_id(genesis, number, timestamp), expected, "at {number}, {timestamp}");
    }

    #[test]
    fn mainnet_has_the_fork_ids_of_eip_2124_and_eip_6122() {
        let spec = ChainSpec::mainnet();
        for (head, id) in [
            ((0, 0), (0xfc64_ec04, 1_150_000)),
            ((1_149_999, 0), (0xfc64_ec04, 1_150_000)),
            ((1_150_000, 0), (0x97c2_c34c, 1_920_000)),
            ((1_920_000, 0), (0x91d1_f948, 2_463_000)),
            ((2_463_000, 0), (0x7a64_da13, 2_675_000)),
            ((2_675_000, 0), (0x3edd_5b10, 4_370_000)),
            ((4_370_000, 0), (0xa00b_c324, 7_280_000)),
            ((7_279_999, 0), (0xa00b_c324, 7_280_000)),
            ((7_280_000, 0), (0x668d_b0af, 9_069_000)),
            ((9_069_000, 0), (0x879d_6e30, 9_200_000)),
            ((9_200_000, 0), (0xe029_e991, 12_244_000)),
            ((12_244_000, 0), (0x0eb4_40f6, 12_965_000)),
            ((12_965_000, 0), (0xb715_077d, 13_773_000)),
            ((13_773_000, 0), (0x20c3_27fc, 15_050_000)),
            ((15_050_000, 0), (0xf0af_d0e3, 1_681_338_455)),
            ((17_034_869, 1_681_338_454), (0xf0af_d0e3, 1_681_338_455)),
            ((17_034_870, 1_681_338_455), (0xdce9_6c2d, 1_710_338_135)),
            ((19_426_587, 1_710_338_135), (0x9f3d_2254, 1_746_612_311)),
            ((22_431_084, 1_746_612_311), (0xc376_cf8b, 1_764_798_551)),
            ((30_000_000, 1_764_798_551), (0x5167_e2a6, 1_765_290_071)),
            ((30_000_000, 1_765_290_071), (0xcba2_a1c0, 1_767_747_671)),
            ((30_000_000, 1_767_747_671), (0x07c9_462e, 0)),
            ((u64::MAX, u64::MAX), (0x07c9_462e, 0)),
        ] {
            assert_fork_id(&spec, MAINNET_GENESIS_HASH, head, id);
        }
    }

    #[test]
    fn sepolia_has_its_netsplit_block_in_the_fork_id() {
        let config = ChainConfig {
            chain_id: 11_155_111,
            homestead_block: Some(0),
            eip150_block: Some(0),
            eip155_block: Some(0),
            eip158_block: Some(0),
            byzantium_block: Some(0),
            constantinople_block: Some(0),
            petersburg_block: Some(0),
            istanbul_block: Some(0),
            muir_glacier_block: Some(0),
            berlin_block: Some(0),
            london_block: Some(0),
            merge_netsplit_block: Some(1_735_371),
            terminal_total_difficulty: Some(sepolia::SEPOLIA_PARIS_TTD),
            shanghai_time: Some(1_677_557_088),
            cancun_time: Some(1_706_655_072),
            prague_time: Some(1_741_159_776),
            osaka_time: Some(1_760_427_360),
            ..Default::default()
        };
        let genesis = Genesis {
            config,
            gas_limit: 30_000_000,
            timestamp: 1_633_267_481,
            ..Default::default()
        };
        let spec = ChainSpec::from_genesis(genesis).unwrap();
        assert_eq!(spec.merge_block(), Some(1_450_409));
        let hash = b256!("0x25a5cc106eea7138acab33231d7160d69cb777ee0c2c553fcddf5138993e6dd9");
        for (head, id) in [
            ((0, 1_633_267_481), (0xfe33_66e7, 1_735_371)),
            ((1_735_371, 1_677_557_087), (0xb96c_bd13, 1_677_557_088)),
            ((1_735_372, 1_677_557_088), (0xf7f9_bc08, 1_706_655_072)),
            ((1_735_372, 1_706_655_072), (0x88cf_81d9, 1_741_159_776)),
            ((1_735_372, 1_741_159_776), (0xed88_b5fd, 1_760_427_360)),
            ((1_735_372, 1_760_427_360), (0xe2ae_4999, 0)),
        ] {
            assert_fork_id(&spec, hash, head, id);
        }
    }

    #[test]
    fn forks_at_or_before_genesis_leave_no_trace() {
        let spec = ChainSpec::dev();
        assert_eq!(spec.fork_blocks(), [0; 0]);
        assert_eq!(spec.fork_times(), [0; 0]);
        let genesis = B256::repeat_byte(7);
        let expected = ForkId { hash: ForkHash::from(genesis), next: 0 };
        assert_eq!(spec.fork_id(genesis, 100, 1_800_000_000), expected);
    }
}
