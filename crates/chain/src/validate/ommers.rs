//! Ommers (uncles) of proof-of-work blocks (yellow paper, 11.1).

use super::check_header;
use crate::{ChainError, ImportError};
use alloy_consensus::Header;
use alloy_primitives::{
    B256,
    map::{B256Map, B256Set},
};
use heddle_chainspec::ChainSpec;

/// Ommers that a block may include.
const OMMERS_MAX: usize = 2;

/// How many generations back the parent of an ommer may be, the parent of the block being the first.
const GENERATIONS_MAX: usize = 7;

/// Where the ancestors of a block are found.
pub(crate) trait Ancestors {
    /// A block's header and ommers.
    fn ancestor(&self, hash: B256) -> Result<Option<(Header, Vec<Header>)>, ChainError>;
}

/// Checks the ommers of a block whose body was found to be that of its header.
pub(crate) fn check_ommers(
    spec: &ChainSpec,
    header: &Header,
    ommers: &[Header],
    merged: bool,
    chain: &impl Ancestors,
) -> Result<(), ImportError> {
    let max = if merged { 0 } else { OMMERS_MAX };
    if ommers.len() > max {
        return Err(ImportError::TooManyOmmers { max, actual: ommers.len() });
    }
    if ommers.is_empty() {
        return Ok(());
    }
    let mut ancestors = B256Map::<Header>::default();
    let mut included = B256Set::default();
    let mut hash = header.parent_hash;
    for _ in 0..GENERATIONS_MAX {
        let Some((ancestor, its_ommers)) = chain.ancestor(hash)? else { break };
        included.extend(its_ommers.iter().map(Header::hash_slow));
        let parent = ancestor.parent_hash;
        ancestors.insert(hash, ancestor);
        hash = parent;
    }
    for ommer in ommers {
        let hash = ommer.hash_slow();
        if !included.insert(hash) {
            return Err(ImportError::OmmerIncludedBefore(hash));
        }
        if ancestors.contains_key(&hash) {
            return Err(ImportError::OmmerIsAncestor(hash));
        }
        // A child of the parent would be a sibling of this block, not of an ancestor.
        let parent = Some(ommer.parent_hash)
            .filter(|parent| *parent != header.parent_hash)
            .and_then(|parent| ancestors.get(&parent))
            .ok_or(ImportError::OmmerParent { hash, parent: ommer.parent_hash })?;
        check_header(spec, ommer, parent, false)
            .map_err(|reason| ImportError::OmmerHeader { hash, reason: Box::new(reason) })?;
    }
    Ok(())
}
