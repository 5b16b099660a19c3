// Package progress tells how running exports get on.
//
// Book keeps the latest news of each, as workers publish them. Holds lets a status request wait for
// news of its job instead of answering it that nothing has changed.
//
// The package never decides who may ask about a job, and never renders an answer. The handlers of
// status requests use both types; pages of patients and administrators read the Book.
package progress
