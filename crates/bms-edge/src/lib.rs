//! The edge agent: pulls, verifies, answers offline, and sends hard samples back.
