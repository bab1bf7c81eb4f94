//! Votes in a DAO.

use super::{OWNER, SENDER};
use crate::{
    Reading, WorkloadError,
    contracts::{Dao, Own, Token},
    random::Random,
    setup::{Setup, Step},
};
use alloy_primitives::{Address, U256};
use alloy_sol_types::{SolCall, SolValue};
use heddle_evm::RecoveredTransaction;

/// Gas limit of one vote; one uses some 65,000.
pub(super) const VOTE_GAS: u64 = 150_000;
/// What each voter's vote weighs: ten tokens.
const WEIGHT: u64 = 10_000_000_000_000_000_000;
/// Proposals that are open at once.
pub(super) const PROPOSALS: usize = 4;

/// A DAO with open proposals, numbered from one.
pub(super) struct OpenDao {
    owner: Address,
    token: Address,
    pub(super) address: Address,
}

impl OpenDao {
    /// Deploys it; the next blocks are for [`Self::enrol`], then [`Self::open`] it.
    pub(super) fn deploy(setup: &mut Setup, owner: Address) -> Result<Self, WorkloadError> {
        let token = setup.token(owner)?;
        let address = setup.deploy_own(owner, Own::Dao, &token.abi_encode())?;
        Ok(Self { owner, token, address })
    }

    /// Gives `voter` votes.
    pub(super) fn enrol(&self, setup: &mut Setup, voter: Address) {
        let value = U256::from(WEIGHT);
        setup.mint(self.token, self.owner, voter, voter, value);
        let approve = Token::approveCall { spender: self.address, value: U256::MAX };
        setup.call(voter, self.token, approve.abi_encode());
        let lock = Dao::lockCall { value }.abi_encode();
        setup.call_in(Step::Second, voter, self.address, lock);
    }

    /// Makes `proposals` and lets the blocks pass that it takes until votes are taken.
    pub(super) fn open(&self, setup: &mut Setup, proposals: usize) -> Result<(), WorkloadError> {
        self.enrol(setup, self.owner);
        for number in 1..=proposals {
            let description = format!("Proposal {number}");
            let call = Dao::proposeCall { description }.abi_encode();
            // What a voter locks after that does not count.
            setup.call_in(Step::Third, self.owner, self.address, call);
        }
        setup.run_block()?;
        setup.run_block()
    }

    /// A vote: six of ten are in favour, three against, one abstains.
    pub(super) fn vote(
        &self,
        setup: &mut Setup,
        random: &mut Random,
        voter: Address,
        proposal: usize,
    ) -> RecoveredTransaction {
        let support = match random.below(10) {
            0..6 => 1,
            6..9 => 0,
            _ => 2,
        };
        let tally = Reading::Tally { dao: self.address, proposal: proposal as u64, support };
        setup.expect(tally, WEIGHT.into(), WEIGHT.into());
        let call = Dao::castVoteCall { id: U256::from(proposal), support }.abi_encode();
        setup.transaction(voter, self.address.into(), 0, call, VOTE_GAS)
    }
}

/// Everyone votes on a proposal, some on several.
pub(crate) fn dao_vote(
    setup: &mut Setup,
    count: usize,
    random: &mut Random,
) -> Result<Vec<RecoveredTransaction>, WorkloadError> {
    let owner = setup.funded(OWNER, 0);
    let dao = OpenDao::deploy(setup, owner)?;
    setup.settle()?;
    let senders = setup.draw_senders(count, PROPOSALS, random);
    // A voter has one vote on each.
    let proposals = PROPOSALS.max(setup.each(count));
    let voters = senders.iter().max().map_or(0, |last| last + 1);
    for voter in 0..voters {
        let voter = setup.funded(SENDER, voter);
        dao.enrol(setup, voter);
    }
    dao.open(setup, proposals)?;
    // Each voter goes round the proposals from one of his choice.
    let mut next: Vec<_> = (0..voters).map(|_| random.below(proposals)).collect();
    let vote = |sender: usize| {
        next[sender] += 1;
        let proposal = next[sender] % proposals + 1;
        let voter = setup.account(SENDER, sender);
        dao.vote(setup, random, voter, proposal)
    };
    Ok(senders.into_iter().map(vote).collect())
}
