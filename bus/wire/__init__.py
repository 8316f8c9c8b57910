"""All that talks to Redis: connections, streams, leases, scripts, keys. Only this folder imports redis and hiredis."""
