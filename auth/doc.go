// Package auth is the SMART App Launch authorization server: scopes, codes, tokens and keys (SMART-1 to 10). It knows who a
// client is and what a token opens; it knows nothing of jobs and nothing of HTTP: the api module turns requests into calls
// and answers into responses.
//
//	authorize request --Check--> Request --patient agrees--> Code --redeem--> Tokens --Verify--> Access
//	                                                                 \--refresh, rotated--/
//
// All state is in one KV bucket, so that any number of API processes are one authorization server:
//
//	key.<kid>        the signing key (ES256)
//	code.<hash>      a code that was given out (60 s)
//	refresh.<hash>   a refresh token that was given out
//	used.<hash>      the tombstone of either: whoever creates it has redeemed it, anyone later is a replay
//	revoked.<family> everything that came of one authorization is void
//	jti.<hash>       an assertion that was used; it lives as long as the assertion
//
// Codes and refresh tokens are random and stored as hashes only.
package auth
