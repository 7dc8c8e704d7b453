"""OpenAI's API on the user's own machine: `blindgate proxy`.

An unchanged program talks to it over loopback; requests are sealed here, under this client's policy, and leave this machine sealed.
Needs the extra `proxy`. Each module says its part: `door` who may ask, `app` the routes, `events` answers that are streamed,
`failures` errors in OpenAI's shape, `hangups` jobs that nobody waits for any more, `server` the process.
"""
