//! Walking all of the state of the head.

use crate::codec::{decode_account, decode_word};
use crate::{StateView, StoreError};
use alloy_primitives::{Address, U256};
use heddle_trie::AccountState;
use redb::ReadableTable;

/// An account with everything that is stored of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAccount {
    /// Where it is.
    pub address: Address,
    /// Its basic part.
    pub state: AccountState,
    /// Its slots in order, none of them zero.
    pub slots: Vec<(U256, U256)>,
}

impl StateView {
    /// Hands out every account of the state, in order of address, the slots of one at a time
    /// in memory.
    ///
    /// # Errors
    /// The first that `visit` gives; if this is the state of an older block than the newest one was
    /// when the view was taken; on a fork, whose state is not all here; or when the database fails.
    pub fn for_each_account<E: From<StoreError>>(
        &self,
        mut visit: impl FnMut(StoredAccount) -> Result<(), E>,
    ) -> Result<(), E> {
        self.nodes_are_of_this_block()?;
        self.snapshot().base.check_whole()?;
        let tables = &self.snapshot().tables;
        let mut slots = tables.storage.iter().map_err(StoreError::from)?.map(
            |entry| -> Result<_, StoreError> {
                let (key, value) = entry?;
                let (address, slot) = key.value().split_at(20);
                let value = decode_word("storage", value.value())?;
                Ok((Address::from_slice(address), U256::from_be_slice(slot), value))
            },
        );
        let mut ahead = slots.next().transpose()?;
        for entry in tables.accounts.iter().map_err(StoreError::from)? {
            let (address, account) = entry.map_err(StoreError::from)?;
            let address = Address::from(address.value());
            let state = decode_account("accounts", account.value())?;
            let mut found = Vec::new();
            while let Some((of, slot, value)) = ahead.filter(|(of, ..)| *of <= address) {
                if of != address {
                    return Err(StoreError::OrphanStorage { address: of }.into());
                }
                found.push((slot, value));
                ahead = slots.next().transpose()?;
            }
            visit(StoredAccount { address, state, slots: found })?;
        }
        match ahead {
            Some((address, ..)) => Err(StoreError::OrphanStorage { address }.into()),
            None => Ok(()),
        }
    }
}
