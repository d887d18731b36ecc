//! The web board over a real socket: who gets in, what pages show, what forms do, what streams tell.

mod browser;
mod entrance;
mod live;
mod logs;
mod many;
mod pages;
mod places;
