// Package progress knows how far running exports are.
//
// Book has the latest progress of each export, as published by workers. Holds lets a status
// request wait for a change of its job, instead of answering that nothing has changed.
//
// The package never decides who may ask about a job, and never renders a response. The handlers
// of status requests use both types; pages of patients and administrators read the Book.
package progress
