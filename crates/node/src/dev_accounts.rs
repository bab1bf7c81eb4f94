//! The accounts of the development chain. Their keys are public: everybody uses the same ones.

use alloy_primitives::{Address, B256};
use alloy_signer_local::{MnemonicBuilder, PrivateKeySigner};

/// The mnemonic that Hardhat, Anvil and others use for development.
pub const DEV_MNEMONIC: &str = "test test test test test test test test test test test junk";

/// Funded accounts in `genesis/dev.json`.
const DEV_ACCOUNTS: u32 = 10;

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
    let account = |index| {
        let signer = MnemonicBuilder::from_phrase(DEV_MNEMONIC)
            .index(index)
            .and_then(|builder| builder.build());
        match signer {
            Ok(signer) => DevAccount { address: signer.address(), key: signer.to_bytes(), signer },
            Err(error) => unreachable!("the mnemonic and the path are fixed and valid: {error}"),
        }
    };
    (0..DEV_ACCOUNTS).map(account).collect()
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
}
