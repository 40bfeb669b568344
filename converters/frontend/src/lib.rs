//! What a model is fed, made of what people have: of a clip, features or samples.

pub mod audio;
