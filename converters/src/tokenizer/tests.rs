//! Tests against recorded ids.
