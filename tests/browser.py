"""A headless Chromium, driven through the pipe of its DevTools protocol: no package, no port."""

import itertools
import json
import os
import select
import shutil
import subprocess
import time

import pytest

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
PATIENCE_S = 60


class Browser:
  """One browser with one page. `errors` has every exception and error that the page reported."""

  def __init__(self, folder):
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
      pytest.skip(f'needs a browser, one of {", ".join(NAMES)}')
    (self._read, their_write), (their_read, self._write) = os.pipe(), os.pipe()
    flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage']
    flags += ['--no-first-run', '--remote-debugging-pipe', f'--user-data-dir={folder}']
    # The browser reads from descriptor 3 and writes to 4.
    self._process = subprocess.Popen(
      ['bash', '-c', f'exec "$@" 3<&{their_read} 4>&{their_write}', 'bash', program, *flags],
      pass_fds=(their_read, their_write),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    os.close(their_read)
    os.close(their_write)
    self.errors, self._loads, self._bytes = [], 0, b''
    self._numbers, self._session = itertools.count(1), None
    target = self.call('Target.createTarget', url='about:blank')['targetId']
    attached = self.call('Target.attachToTarget', targetId=target, flatten=True)
    self._session = attached['sessionId']
    for domain in ('Page', 'Runtime', 'Log'):
      self.call(f'{domain}.enable')

  def close(self):
    self._process.terminate()
    self._process.wait(PATIENCE_S)
    os.close(self._read)
    os.close(self._write)

  def call(self, method, **params):
    """Sends a command of the DevTools protocol and returns its result."""
    number = next(self._numbers)
    message = {'id': number, 'method': method, 'params': params}
    if self._session:
      message['sessionId'] = self._session
    os.write(self._write, json.dumps(message).encode() + b'\0')
    while True:
      answer = self._receive()
      if answer.get('id') == number:
        assert 'error' not in answer, (method, answer['error'])
        return answer['result']

  def _receive(self):
    deadline = time.monotonic() + PATIENCE_S
    while b'\0' not in self._bytes:
      ready, *_ = select.select([self._read], [], [], max(deadline - time.monotonic(), 0))
      assert ready, 'the browser does not answer'
      more = os.read(self._read, 1 << 20)
      assert more, 'the browser has ended'
      self._bytes += more
    first, self._bytes = self._bytes.split(b'\0', 1)
    message = json.loads(first)
    params = message.get('params', {})
    if message.get('method') == 'Runtime.exceptionThrown':
      self.errors.append(params['exceptionDetails'])
    elif message.get('method') == 'Runtime.consoleAPICalled':
      self.errors.append(params['args'])  # the page writes nothing there
    elif message.get('method') == 'Log.entryAdded':
      self.errors.append(params['entry'])
    elif message.get('method') == 'Page.loadEventFired':
      self._loads += 1
    return message

  def open(self, path, width=1280, height=900, dark=False):
    """Opens a file in a window of that size, in CSS pixels, and waits for its first picture."""
    self.call(
      'Emulation.setDeviceMetricsOverride',
      width=width,
      height=height,
      deviceScaleFactor=1,
      mobile=width < 500,
    )
    scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
    self.call('Emulation.setEmulatedMedia', features=[scheme])
    loads = self._loads
    self.call('Page.navigate', url=f'file://{path}')
    while loads == self._loads:
      self._receive()
    self.settle()

  def settle(self):
    """Waits until a frame has been drawn after what was done last."""
    self.evaluate('new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))')

  def evaluate(self, expression):
    """Returns the value of an expression of the page, awaited if it is a promise."""
    result = self.call(
      'Runtime.evaluate', expression=expression, awaitPromise=True, returnByValue=True
    )
    assert 'exceptionDetails' not in result, result['exceptionDetails']
    return result['result'].get('value')

  def until(self, is_so):
    """Waits until `is_so()` is true, for what the page does in its own time."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
      assert time.monotonic() < deadline, 'it did not happen'
      time.sleep(0.02)
