// Package pairing makes sure that an exporter belongs to its server: it reads the same records,
// writes into the same folder and releases by the same rules, within the same limits. The
// server's side (Server) says what it has, in a record that every exporter follows; the
// exporter's side (Member) compares that with its own, again whenever one of them changes, and
// takes commands only while nothing differs. An exporter within the server's process is a Member
// like any other.
//
//	Server --terms--> KV ehi_fleet --follow--> Member --admission--> workers
//	  ^                    |                      |
//	  +---- new text <-----+------- joins <-------+     (the text in the folder of the exports is drawn anew for whoever joins)
//
// A wrong exporter does not even ask for commands, so that a right one gets them.
package pairing
