"""The wire: everything that knows Redis. Only this folder imports redis and hiredis."""
