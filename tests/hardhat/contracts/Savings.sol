// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// Ether that its owner gets back when the time has come; anyone may add to it.
contract Savings {
    address public owner;
    uint256 public unlockTime;
    uint256 public deposits;

    event Deposited(address indexed from, uint256 amount);
    event Withdrawn(address indexed to, uint256 amount);

    error TooEarly(uint256 now_, uint256 unlockTime);

    constructor(uint256 unlockTime_) payable {
        require(unlockTime_ > block.timestamp, "Savings: unlock time has passed");
        owner = msg.sender;
        unlockTime = unlockTime_;
    }

    function deposit() external payable {
        deposits++;
        emit Deposited(msg.sender, msg.value);
    }

    function withdraw() external {
        require(msg.sender == owner, "Savings: not the owner");
        if (block.timestamp < unlockTime) revert TooEarly(block.timestamp, unlockTime);
        uint256 amount = address(this).balance;
        emit Withdrawn(msg.sender, amount);
        (bool sent,) = owner.call{value: amount}("");
        require(sent, "Savings: owner refused");
    }

    /// What the block before the present one left to chance.
    function randomness() external view returns (uint256) {
        return block.prevrandao;
    }
}
