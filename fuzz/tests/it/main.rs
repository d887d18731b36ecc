//! What CI runs of the fuzz targets: a moment of each, every method of both protocols, and whether garbage
//! leaves anything behind.

#[cfg(test)]
mod memory;
#[cfg(test)]
mod methods;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod short;
