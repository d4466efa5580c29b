"""The pages a radiologist sees: worklist and study viewer."""
