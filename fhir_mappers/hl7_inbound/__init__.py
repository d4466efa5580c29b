"""HL7 v2 messages of other systems, read without trust: orders, patients, reports, answers.

``reading`` finds character set, separators and segments, and fails only in its own words;
``orders``, ``patient_changes`` and ``reported`` say what a message asks for; ``acknowledgement``
answers it, and reads the answers that others give. Pure: bytes in, values out.
"""
