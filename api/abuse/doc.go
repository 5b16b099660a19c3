// Package abuse limits clients that guess secrets or poll too often.
//
// Failures counts failed requests by network address and by client, and refuses both for a while
// after too many failures. Paces limits how often clients poll the status of each export. Every
// refusal has a Retry-After.
//
// The package never judges credentials and never limits successful requests: a client without
// failures costs no write. Package server puts Failures.Limit before the routes on which clients
// could guess. The handlers of status requests ask Paces.
package abuse
