use crate::TrieUpdates;
use alloy_primitives::B256;
use nybbles::Nibbles;
use std::convert::Infallible;

/// Where the stored nodes of all tries of one state are read from.
///
/// `Sync`, because storage tries of different accounts are hashed on several threads.
pub trait NodeReader: Sync {
    /// Why a read failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The RLP of the node of the account trie at `path`, `None` where there is none.
    fn account_node(&self, path: &Nibbles) -> Result<Option<Vec<u8>>, Self::Error>;

    /// The RLP of the node at `path` of the storage trie of `hashed_address` (keccak-256 of the
    /// address), `None` where there is none.
    fn storage_node(
        &self,
        hashed_address: B256,
        path: &Nibbles,
    ) -> Result<Option<Vec<u8>>, Self::Error>;
}

impl<R: NodeReader> NodeReader for &R {
    type Error = R::Error;

    fn account_node(&self, path: &Nibbles) -> Result<Option<Vec<u8>>, Self::Error> {
        (**self).account_node(path)
    }

    fn storage_node(
        &self,
        hashed_address: B256,
        path: &Nibbles,
    ) -> Result<Option<Vec<u8>>, Self::Error> {
        (**self).storage_node(hashed_address, path)
    }
}

/// The empty state: what a genesis block is computed over.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNodes;

impl NodeReader for NoNodes {
    type Error = Infallible;

    fn account_node(&self, _path: &Nibbles) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(None)
    }

    fn storage_node(&self, _: B256, _path: &Nibbles) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(None)
    }
}

/// The nodes of `base` with `updates` applied: the state after a block that is not stored yet, or,
/// with the updates of reverse changes, an older state.
#[derive(Debug, Clone, Copy)]
pub struct OverlayReader<'u, R> {
    /// The stored nodes.
    pub base: R,
    /// What has changed since.
    pub updates: &'u TrieUpdates,
}

impl<R: NodeReader> NodeReader for OverlayReader<'_, R> {
    type Error = R::Error;

    fn account_node(&self, path: &Nibbles) -> Result<Option<Vec<u8>>, Self::Error> {
        match self.updates.account_nodes.get(path) {
            Some(node) => Ok(node.clone()),
            None => self.base.account_node(path),
        }
    }

    fn storage_node(
        &self,
        hashed_address: B256,
        path: &Nibbles,
    ) -> Result<Option<Vec<u8>>, Self::Error> {
        let Some(updates) = self.updates.storage_nodes.get(&hashed_address) else {
            return self.base.storage_node(hashed_address, path);
        };
        match updates.nodes.get(path) {
            Some(node) => Ok(node.clone()),
            None if updates.wiped => Ok(None),
            None => self.base.storage_node(hashed_address, path),
        }
    }
}
