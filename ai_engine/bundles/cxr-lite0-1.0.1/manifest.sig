{
  "publisher": "radcds-2026",
  "ed25519": "G2Nl/OJ/97/6+Jm93K48YE63REFSqSMHfBHgsh1rlIaV4K0P/ETvVIc2PiLb93EhCX6AZrwDmgAeOt/8U+u2Bg=="
}
