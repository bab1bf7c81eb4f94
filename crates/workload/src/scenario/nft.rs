//! A public mint of collectibles.

use super::{OWNER, SENDER};
use crate::{
    Reading, WorkloadError,
    contracts::{Collectible, Own},
    random::Random,
    setup::Setup,
};
use alloy_primitives::{Address, U256};
use alloy_sol_types::{SolCall, SolValue};
use heddle_evm::RecoveredTransaction;

/// Gas limit of one mint; one uses some 95,000.
pub(super) const MINT_GAS: u64 = 150_000;
/// Tokens that one wallet may mint.
const PER_WALLET: usize = 5;

/// Everyone mints one for free, some again.
pub(crate) fn nft_mint(
    setup: &mut Setup,
    count: usize,
    random: &mut Random,
) -> Result<Vec<RecoveredTransaction>, WorkloadError> {
    let owner = setup.funded(OWNER, 0);
    let per_wallet = PER_WALLET.max(setup.each(count));
    let arguments = (U256::MAX, U256::from(per_wallet), U256::ZERO).abi_encode();
    let collection = setup.deploy_own(owner, Own::Collectible, &arguments)?;
    setup.run_block()?;
    let call = Collectible::mintCall { quantity: U256::from(1) }.abi_encode();
    let senders = setup.draw_senders(count, PER_WALLET, random);
    for sender in 0..=senders.iter().copied().max().unwrap_or_default() {
        setup.funded(SENDER, sender);
    }
    let mint = |sender| {
        let sender = setup.account(SENDER, sender);
        expect_mint(setup, collection, sender);
        setup.transaction(sender, collection.into(), 0, call.clone(), MINT_GAS)
    };
    Ok(senders.into_iter().map(mint).collect())
}

/// Notes that `holder` mints one.
pub(super) fn expect_mint(setup: &mut Setup, collection: Address, holder: Address) {
    setup.expect(Reading::Supply { collection }, 1, 1);
    setup.expect(Reading::Collectibles { collection, holder }, 1, 1);
}
