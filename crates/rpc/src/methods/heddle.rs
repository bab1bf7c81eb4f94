//! Methods of our own: what parallel execution tells of blocks and transactions.

use super::{Table, only};
use crate::{RpcError, heddle, params::Number};

impl Table<'_> {
    pub(super) fn heddle(&mut self) -> Result<(), RpcError> {
        self.tracing("heddle_getBlockProfile", 1, only, heddle::block_profile)?;
        self.tracing(
            "heddle_getHotLocations",
            3,
            |args| {
                let (from, to) = (args.required()?, args.required()?);
                Ok((from, to, args.optional::<Number>()?.map(|count| count.0)))
            },
            heddle::hot_locations,
        )?;
        self.tracing(
            "heddle_predictConflicts",
            2,
            |args| Ok((args.required()?, args.or(true)?)),
            heddle::predict_conflicts,
        )
    }
}
