// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

interface IVotingToken {
    function transfer(address to, uint256 value) external returns (bool);
    function transferFrom(address from, address to, uint256 value) external returns (bool);
}

/// A DAO in which locked tokens vote, in the manner of Compound's Governor: the weight of a vote is what the voter had
/// locked when the proposal began, and votes are summed into three tallies per proposal.
///
/// Storage: slot 0 number of proposals; 1 proposals; 2 votes cast (proposal, voter); 3 checkpoints by account.
contract Dao {
    enum State {
        Pending,
        Active,
        Defeated,
        Succeeded
    }

    struct Proposal {
        address proposer;
        uint48 start;
        uint48 end;
        uint256 againstVotes;
        uint256 forVotes;
        uint256 abstainVotes;
        bytes32 description;
    }

    struct Ballot {
        bool cast;
        uint8 support;
        uint208 weight;
    }

    struct Checkpoint {
        uint48 fromBlock;
        uint208 votes;
    }

    uint48 public constant VOTING_DELAY = 1;
    uint48 public constant VOTING_PERIOD = 50_400;
    uint256 public constant PROPOSAL_THRESHOLD = 1_000;
    uint256 public constant QUORUM = 10_000;

    IVotingToken public immutable token;

    uint256 public proposalCount;
    mapping(uint256 => Proposal) public proposals;
    mapping(uint256 => mapping(address => Ballot)) public ballots;
    mapping(address => Checkpoint[]) private _checkpoints;

    event ProposalCreated(uint256 indexed id, address indexed proposer, uint48 start, uint48 end, string description);
    event VoteCast(address indexed voter, uint256 indexed id, uint8 support, uint256 weight, string reason);
    event Locked(address indexed account, uint256 votes);

    error BelowThreshold();
    error NotActive();
    error AlreadyVoted();
    error UnknownSupport();
    error NotEnoughLocked();
    error TransferFailed();

    constructor(IVotingToken token_) {
        token = token_;
    }

    function lock(uint256 value) external {
        _write(msg.sender, votesOf(msg.sender) + value);
        if (!token.transferFrom(msg.sender, address(this), value)) revert TransferFailed();
    }

    function unlock(uint256 value) external {
        uint256 votes = votesOf(msg.sender);
        if (votes < value) revert NotEnoughLocked();
        _write(msg.sender, votes - value);
        if (!token.transfer(msg.sender, value)) revert TransferFailed();
    }

    function propose(string calldata description) external returns (uint256 id) {
        if (votesOf(msg.sender) < PROPOSAL_THRESHOLD) revert BelowThreshold();
        id = ++proposalCount;
        Proposal storage proposal = proposals[id];
        proposal.proposer = msg.sender;
        proposal.start = uint48(block.number) + VOTING_DELAY;
        proposal.end = proposal.start + VOTING_PERIOD;
        proposal.description = keccak256(bytes(description));
        emit ProposalCreated(id, msg.sender, proposal.start, proposal.end, description);
    }

    function castVote(uint256 id, uint8 support) external {
        _vote(id, support, "");
    }

    function castVoteWithReason(uint256 id, uint8 support, string calldata reason) external {
        _vote(id, support, reason);
    }

    function state(uint256 id) public view returns (State) {
        Proposal storage proposal = proposals[id];
        if (block.number <= proposal.start) return State.Pending;
        if (block.number <= proposal.end) return State.Active;
        uint256 turnout = proposal.forVotes + proposal.abstainVotes;
        return turnout >= QUORUM && proposal.forVotes > proposal.againstVotes ? State.Succeeded : State.Defeated;
    }

    function votesOf(address account) public view returns (uint256) {
        Checkpoint[] storage history = _checkpoints[account];
        return history.length == 0 ? 0 : history[history.length - 1].votes;
    }

    /// What the account had locked at the end of a past block.
    function pastVotes(address account, uint256 blockNumber) public view returns (uint256) {
        Checkpoint[] storage history = _checkpoints[account];
        uint256 low = 0;
        uint256 high = history.length;
        while (low < high) {
            uint256 middle = (low + high) / 2;
            if (history[middle].fromBlock > blockNumber) high = middle;
            else low = middle + 1;
        }
        return high == 0 ? 0 : history[high - 1].votes;
    }

    function _vote(uint256 id, uint8 support, string memory reason) private {
        Proposal storage proposal = proposals[id];
        if (proposal.end == 0 || state(id) != State.Active) revert NotActive();
        Ballot storage ballot = ballots[id][msg.sender];
        if (ballot.cast) revert AlreadyVoted();
        uint256 weight = pastVotes(msg.sender, proposal.start);
        ballot.cast = true;
        ballot.support = support;
        ballot.weight = uint208(weight);
        if (support == 0) proposal.againstVotes += weight;
        else if (support == 1) proposal.forVotes += weight;
        else if (support == 2) proposal.abstainVotes += weight;
        else revert UnknownSupport();
        emit VoteCast(msg.sender, id, support, weight, reason);
    }

    function _write(address account, uint256 votes) private {
        Checkpoint[] storage history = _checkpoints[account];
        uint256 length = history.length;
        if (length != 0 && history[length - 1].fromBlock == block.number) {
            history[length - 1].votes = uint208(votes);
        } else {
            history.push(Checkpoint(uint48(block.number), uint208(votes)));
        }
        emit Locked(account, votes);
    }
}
