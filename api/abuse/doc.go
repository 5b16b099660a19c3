// Package abuse limits clients that guess at secrets, or ask too often.
//
// Failures counts the requests that fail, by network address and by client, and refuses both for a
// while after too many failures. Paces holds the polls of each export's status to a pace. Every
// refusal says when to come back.
//
// The package never judges credentials, and never limits requests that succeed: a client that does
// nothing wrong costs no write. Package server puts Failures.Limit before the routes that people
// guess at; the handlers of status requests ask Paces.
package abuse
