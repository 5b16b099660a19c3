// Package page holds what all pages of this server have in common: rendering in a visitor's
// language, the tokens of forms, the checks that a request comes from a page of this server, and
// what a form leaves for the page that its answer leads to.
//
// It registers no routes, and does not know who is signed in: whose session a flash is of, and what
// it says beside its own fields, the pages tell. The handlers of pages use it.
package page
