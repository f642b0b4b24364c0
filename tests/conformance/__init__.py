"""What holds of RFC clauses and against known attacks, row by row, for us and for two peers, over real sockets."""
