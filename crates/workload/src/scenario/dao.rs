//! Votes in a DAO.

use super::{OWNER, SENDER, tokens};
use crate::{
    WorkloadError,
    contracts::{Dao, Own, Token},
    random::Random,
    setup::Setup,
};
use alloy_primitives::{Address, U256};
use alloy_sol_types::{SolCall, SolValue};
use heddle_evm::RecoveredTransaction;

/// Gas limit of one vote; one uses some 65,000.
pub(super) const VOTE_GAS: u64 = 150_000;
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
        let value = tokens(10);
        setup.call(self.owner, self.token, Token::mintCall { to: voter, value }.abi_encode());
        let approve = Token::approveCall { spender: self.address, value: U256::MAX };
        setup.call(voter, self.token, approve.abi_encode());
        setup.call(voter, self.address, Dao::lockCall { value }.abi_encode());
    }

    /// Proposes and lets the blocks pass that it takes until votes are taken.
    pub(super) fn open(&self, setup: &mut Setup) -> Result<(), WorkloadError> {
        self.enrol(setup, self.owner);
        for number in 1..=PROPOSALS {
            let description = format!("Proposal {number}");
            let call = Dao::proposeCall { description }.abi_encode();
            setup.call(self.owner, self.address, call);
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
    let senders = random.senders(count, PROPOSALS);
    let voters = senders.iter().max().map_or(0, |last| last + 1);
    for voter in 0..voters {
        let voter = setup.funded(SENDER, voter);
        dao.enrol(setup, voter);
    }
    dao.open(setup)?;
    // Each voter goes round the proposals from one of his choice.
    let mut next: Vec<_> = (0..voters).map(|_| random.below(PROPOSALS)).collect();
    let vote = |sender: usize| {
        next[sender] += 1;
        let proposal = next[sender] % PROPOSALS + 1;
        dao.vote(setup, random, Setup::account(SENDER, sender), proposal)
    };
    Ok(senders.into_iter().map(vote).collect())
}
