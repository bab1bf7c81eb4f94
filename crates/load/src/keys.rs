//! The accounts of a run.

use alloy_primitives::{Address, B256, keccak256, map::AddressMap};
use alloy_signer_local::PrivateKeySigner;
use heddle_workload::{AddressBook, Group};
use rayon::prelude::*;
use std::sync::Arc;

/// The accounts of a run. Their keys come from the seed and a number of the run, so that two runs
/// on one chain do not meet.
#[derive(Debug)]
pub(crate) struct Keyring {
    seed: u64,
    run: B256,
    senders: Arc<Vec<Address>>,
    owner: Address,
    keys: AddressMap<B256>,
}

impl Keyring {
    /// Makes the keys of `senders` accounts and of the owner, on all cores.
    pub(crate) fn new(seed: u64, run: B256, senders: usize) -> Self {
        let make = |group, index| account(secret(seed, run, group, index));
        let pairs: Vec<_> =
            (0..senders).into_par_iter().map(|index| make(Group::Sender, index)).collect();
        let owner = make(Group::Owner, 0);
        let senders = pairs.iter().map(|(address, _)| *address).collect();
        let keys = pairs.into_iter().chain([owner]).collect();
        Self { seed, run, senders: Arc::new(senders), owner: owner.0, keys }
    }

    /// Lets another account send.
    pub(crate) fn add(&mut self, key: B256, address: Address) {
        self.keys.insert(address, key);
    }

    pub(crate) fn key(&self, address: &Address) -> Option<B256> {
        self.keys.get(address).copied()
    }

    /// Who is who, for the workload. Receivers have no keys, only addresses.
    pub(crate) fn address_book(&self) -> AddressBook {
        let (senders, owner) = (Arc::clone(&self.senders), self.owner);
        let (seed, run) = (self.seed, self.run);
        Arc::new(move |group, index| match group {
            Group::Owner => owner,
            Group::Sender => senders
                .get(index)
                .copied()
                .unwrap_or_else(|| Address::from_word(secret(seed, run, group, index))),
            Group::Receiver => Address::from_word(secret(seed, run, group, index)),
        })
    }
}

/// 32 bytes that nobody else comes upon.
fn secret(seed: u64, run: B256, group: Group, index: usize) -> B256 {
    let mut bytes = [0; 49];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes[8..40].copy_from_slice(run.as_slice());
    bytes[40] = group as u8;
    bytes[41..].copy_from_slice(&(index as u64).to_be_bytes());
    keccak256(bytes)
}

/// A hash is no key once in 2^128; its own hash then is.
fn account(mut secret: B256) -> (Address, B256) {
    loop {
        if let Ok(signer) = PrivateKeySigner::from_bytes(&secret) {
            return (signer.address(), secret);
        }
        secret = keccak256(secret);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_run_give_the_same_accounts_and_others_give_others() {
        let addresses = |seed, run: u8| {
            let book = Keyring::new(seed, B256::repeat_byte(run), 3).address_book();
            let groups = [Group::Sender, Group::Receiver, Group::Owner];
            groups.map(|group| book(group, 0))
        };
        let (first, again, run, seed) =
            (addresses(1, 1), addresses(1, 1), addresses(1, 2), addresses(2, 1));
        assert_eq!(first, again);
        for (one, other) in first.iter().flat_map(|one| [(one, run), (one, seed)]) {
            assert!(!other.contains(one));
        }
    }

    #[test]
    fn senders_and_the_owner_have_the_keys_of_their_addresses() {
        let keys = Keyring::new(7, B256::ZERO, 5);
        let book = keys.address_book();
        let senders = (0..5).map(|index| book(Group::Sender, index));
        for address in senders.chain([book(Group::Owner, 0)]) {
            let key = keys.key(&address).expect("it has a key");
            assert_eq!(PrivateKeySigner::from_bytes(&key).unwrap().address(), address);
        }
        assert_eq!(keys.key(&book(Group::Receiver, 0)), None);
    }
}
