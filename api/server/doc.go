// Package server is the HTTP application. It holds the routes, the rules that say who may use them,
// the middleware in front of all of them, and the answers to errors. The packages of handlers
// (fhirapi, smart, patient, staff, console) register their routes with it.
//
// routes.go shows where every route comes from, and rules.go who may use it. The package never
// exports anything itself, and keeps no state of its own.
package server
