// Package page holds what all pages of this server have in common: rendering in a visitor's language,
// the checks that a request comes from a page of this server, and the form of a page that may be sent
// again.
//
// It registers no routes, and does not know who is signed in. The handlers of pages use it.
package page
