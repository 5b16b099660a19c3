// Package page has what all pages of this server share: rendering in the visitor's language,
// form tokens, checks that a request comes from a page of this server, and messages that a form
// leaves for the page to which it redirects.
//
// It registers no routes and does not know who is signed in: the callers say whose session a
// flash belongs to and what it contains. The handlers of pages use it.
package page
