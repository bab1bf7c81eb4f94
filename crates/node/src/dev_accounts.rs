//! The development chain and its accounts. Unless another mnemonic is asked for, their keys are public: everybody uses
//! the same ones.

use crate::{ChainSource, NodeError};
use alloy_primitives::{Address, B256, U256, uint};
use alloy_signer_local::{MnemonicBuilder, PrivateKeySigner};
use heddle_chainspec::ChainSpec;

const WEI_PER_ETHER: U256 = uint!(1_000_000_000_000_000_000_U256);

/// The mnemonic that Hardhat, Anvil and others use for development.
pub const DEV_MNEMONIC: &str = "test test test test test test test test test test test junk";

/// Funded accounts in `genesis/dev.json`.
const DEV_ACCOUNTS: u16 = 10;

/// What each of them has, in ether.
const DEV_BALANCE_ETHER: u64 = 10_000;

/// A development account.
#[derive(Debug, Clone)]
pub struct DevAccount {
    /// Its address.
    pub address: Address,
    /// Its private key.
    pub key: B256,
    /// What signs for it.
    pub signer: PrivateKeySigner,
}

/// The ten funded accounts, by derivation path `m/44'/60'/0'/0/0` to `9`.
pub fn dev_accounts() -> Vec<DevAccount> {
    match DevChain::default().accounts() {
        Ok(accounts) => accounts,
        Err(error) => unreachable!("the mnemonic and the paths are fixed and valid: {error}"),
    }
}

/// What can be chosen of the development chain. The rest is as in `genesis/dev.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevChain {
    /// What the accounts' keys are derived from.
    pub mnemonic: String,
    /// How many accounts there are.
    pub accounts: u16,
    /// What each has at genesis, in ether.
    pub balance_ether: u64,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The genesis block's time, in seconds.
    pub timestamp: u64,
}

impl Default for DevChain {
    fn default() -> Self {
        Self {
            mnemonic: DEV_MNEMONIC.to_owned(),
            accounts: DEV_ACCOUNTS,
            balance_ether: DEV_BALANCE_ETHER,
            chain_id: ChainSpec::dev().chain_id(),
            timestamp: 0,
        }
    }
}

impl DevChain {
    /// The accounts, by derivation path `m/44'/60'/0'/0/0` and so on.
    ///
    /// # Errors
    /// If the mnemonic is none.
    pub fn accounts(&self) -> Result<Vec<DevAccount>, NodeError> {
        let account = |index: u16| {
            let signer = MnemonicBuilder::from_phrase(self.mnemonic.as_str())
                .index(u32::from(index))
                .and_then(|builder| builder.build())
                .map_err(|error| NodeError::Mnemonic(error.to_string()))?;
            Ok(DevAccount { address: signer.address(), key: signer.to_bytes(), signer })
        };
        (0..self.accounts).map(account).collect()
    }

    /// What each of them has.
    pub fn balance(&self) -> U256 {
        U256::from(self.balance_ether).saturating_mul(WEI_PER_ETHER)
    }

    /// The chain on which these accounts have their balance.
    ///
    /// # Errors
    /// If the rules refuse the chain id.
    pub fn source(&self, accounts: &[DevAccount]) -> Result<ChainSource, NodeError> {
        // The same genesis file, byte for byte, as long as nothing else is asked for.
        if *self == Self::default() {
            return Ok(ChainSource::dev());
        }
        let mut genesis = ChainSource::dev().genesis()?;
        genesis.config.chain_id = self.chain_id;
        genesis.timestamp = self.timestamp;
        for account in dev_accounts() {
            genesis.alloc.remove(&account.address);
        }
        let balance = self.balance();
        for account in accounts {
            genesis.alloc.entry(account.address).or_default().balance = balance;
        }
        ChainSource::from_genesis(&genesis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::address;

    #[test]
    fn the_first_account_is_the_one_everybody_knows() {
        let accounts = dev_accounts();
        assert_eq!(accounts.len(), 10);
        assert_eq!(accounts[0].address, address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266"));
        assert_eq!(accounts[9].address, address!("a0Ee7A142d267C1f36714E4a8F75612F20a79720"));
    }

    #[test]
    fn other_accounts_have_the_balance_and_the_usual_ones_nothing() {
        let usual = DevChain::default();
        let accounts = usual.accounts().unwrap();
        let genesis = usual.source(&accounts).unwrap().genesis().unwrap();
        let mnemonic =
            "legal winner thank year wave sausage worth useful legal winner thank yellow";
        let chain = DevChain {
            mnemonic: mnemonic.to_owned(),
            accounts: 3,
            balance_ether: 7,
            chain_id: 4_242,
            timestamp: 1_700_000_000,
        };
        let others = chain.accounts().unwrap();
        let source = chain.source(&others).unwrap();
        assert_eq!((source.spec.chain_id(), others.len()), (4_242, 3));
        let mut expected = genesis.clone();
        expected.config.chain_id = 4_242;
        expected.timestamp = 1_700_000_000;
        expected.alloc.retain(|address, _| accounts.iter().all(|usual| usual.address != *address));
        assert_eq!(expected.alloc.len() + accounts.len(), genesis.alloc.len());
        for account in &others {
            let balance = U256::from(7_000_000_000_000_000_000u64);
            expected.alloc.entry(account.address).or_default().balance = balance;
        }
        assert_eq!(source.genesis().unwrap(), expected);
        let dev = ChainSpec::dev();
        assert_eq!(source.spec.blob_params_at(1), dev.blob_params_at(1));
        assert_eq!(source.spec.spec_id_at(1, 1), dev.spec_id_at(1, 1));

        let wrong = DevChain { mnemonic: "not a mnemonic".to_owned(), ..usual };
        let error = wrong.accounts().unwrap_err().to_string();
        assert!(error.contains("the mnemonic is wrong"), "{error}");
    }
}
