import { buildModule } from "@nomicfoundation/hardhat-ignition/modules";

export default buildModule("SavingsModule", (m) => {
  const savings = m.contract("Savings", [m.getParameter("unlockTime", 4_102_444_800n)], { value: 5n });
  m.call(savings, "deposit", [], { value: 7n });
  return { savings };
});
