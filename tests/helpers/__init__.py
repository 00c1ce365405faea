"""What several tests share: small problems with known answers, and tiny fitted priors."""
