//! Addresses and slots by name: tries know only their hashes.

use crate::schema::{account_history_key, storage_history_key, storage_key};
use crate::{PastNodes, StoreError};
use alloy_primitives::{Address, U256};
use redb::ReadableTable;
use std::ops::ControlFlow;

impl PastNodes {
    /// Hands out the addresses of all accounts of this state, and more: first those of the newest state, then those of
    /// every older one; some come twice. Ends when `visit` breaks off.
    ///
    /// # Errors
    /// The first that `visit` gives, or when the database fails.
    pub fn for_each_address<E: From<StoreError>>(
        &self,
        mut visit: impl FnMut(Address) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let tables = &self.view().snapshot().tables;
        for entry in tables.accounts.iter().map_err(StoreError::from)? {
            let (key, _) = entry.map_err(StoreError::from)?;
            if visit(Address::from(key.value()))?.is_break() {
                return Ok(());
            }
        }
        let (first, last) = (
            account_history_key(&Address::ZERO, 0),
            account_history_key(&Address::repeat_byte(0xff), u64::MAX),
        );
        let history = tables.account_history.range::<&[u8; 28]>(&first..=&last);
        for entry in history.map_err(StoreError::from)? {
            let (key, _) = entry.map_err(StoreError::from)?;
            if visit(Address::from_slice(&key.value()[..20]))?.is_break() {
                return Ok(());
            }
        }
        for address in self.view().snapshot().pending.addresses() {
            if visit(address)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Hands out the slots of an account in this state, and more, as [`Self::for_each_address`] does addresses.
    ///
    /// # Errors
    /// The first that `visit` gives, or when the database fails.
    pub fn for_each_slot<E: From<StoreError>>(
        &self,
        address: &Address,
        mut visit: impl FnMut(U256) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let tables = &self.view().snapshot().tables;
        let (first, last) = (storage_key(address, U256::ZERO), storage_key(address, U256::MAX));
        let present = tables.storage.range::<&[u8; 52]>(&first..=&last);
        for entry in present.map_err(StoreError::from)? {
            let (key, _) = entry.map_err(StoreError::from)?;
            if visit(U256::from_be_slice(&key.value()[20..]))?.is_break() {
                return Ok(());
            }
        }
        let (first, last) = (
            storage_history_key(address, U256::ZERO, 0),
            storage_history_key(address, U256::MAX, u64::MAX),
        );
        let history = tables.storage_history.range::<&[u8; 60]>(&first..=&last);
        for entry in history.map_err(StoreError::from)? {
            let (key, _) = entry.map_err(StoreError::from)?;
            if visit(U256::from_be_slice(&key.value()[20..52]))?.is_break() {
                return Ok(());
            }
        }
        for slot in self.view().snapshot().pending.slots_of(*address) {
            if visit(slot)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}
