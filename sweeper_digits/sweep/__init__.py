"""Many runs: a study, its queue, its workers. Knows no Keras."""
