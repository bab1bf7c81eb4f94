// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// A pot that anyone fills and one owner empties.
contract Pot {
    address public immutable owner;
    uint256 public deposits;

    event Deposited(address indexed from, uint256 amount, uint256 count);

    error NotOwner(address caller);

    constructor(address owner_) payable {
        owner = owner_;
    }

    function deposit() external payable {
        emit Deposited(msg.sender, msg.value, ++deposits);
    }

    function empty() external {
        if (msg.sender != owner) revert NotOwner(msg.sender);
        (bool sent,) = owner.call{value: address(this).balance}("");
        require(sent, "Pot: owner refused");
    }
}
